"""/v1/responses: OpenAI's Responses, answered from conversations that are kept in memory."""

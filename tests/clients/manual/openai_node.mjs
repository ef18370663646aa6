// The official client for Node: models, an answer, a stream, a typed answer, a function call. Arguments: base URL, model.
import assert from "node:assert/strict";
import OpenAI from "openai";

const [baseURL, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "What is the capital of France?" }];
const schema = {
  type: "object",
  properties: { city: { enum: ["Paris", "Rome"] } },
  required: ["city"],
  additionalProperties: false,
};

const names = [];
for await (const each of client.models.list()) names.push(each.id);
assert(names.includes(model));

const answer = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 30 });
assert.match(answer.choices[0].message.content, /Paris/);

const stream = await client.chat.completions.create({
  model, messages, temperature: 0, max_tokens: 30, stream: true, stream_options: { include_usage: true },
});
let text = "";
let usage;
for await (const chunk of stream) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, answer.choices[0].message.content);
assert.deepEqual(usage.completion_tokens, answer.usage.completion_tokens);

const typed = await client.chat.completions.parse({
  model, messages, response_format: { type: "json_schema", json_schema: { name: "answer", strict: true, schema } },
});
assert(["Paris", "Rome"].includes(typed.choices[0].message.parsed.city));

const tools = [{ type: "function", function: { name: "go_to", strict: true, parameters: schema } }];
const running = client.chat.completions.stream({ model, messages, tools, tool_choice: "required", parallel_tool_calls: false });
const called = await running.finalChatCompletion();
const [call] = called.choices[0].message.tool_calls;
assert(call.function.name === "go_to" && ["Paris", "Rome"].includes(JSON.parse(call.function.arguments).city));

await assert.rejects(client.chat.completions.create({ model, messages, temperature: -1 }), OpenAI.BadRequestError);

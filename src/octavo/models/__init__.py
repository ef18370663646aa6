"""Model families: what differs between them, as data; `decoder` is what they share."""

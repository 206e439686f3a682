// What a program that uses OpenAI's client does, against the Gateway. Arguments: folder with the package, base URL.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [, , folder, baseURL] = process.argv;
const OpenAI = createRequire(`${folder}/`)("openai");
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });

const models = [];
for await (const model of client.models.list()) {
  models.push(model.id);
}
assert.deepEqual(models, ["tiny"]);
assert.equal((await client.models.retrieve("tiny")).object, "model");

const request = { model: "tiny", prompt: "the cat", max_tokens: 24, temperature: 0.8, top_p: 0.9, seed: 5 };
const whole = await client.completions.create(request);
assert.equal(whole.object, "text_completion");
assert.equal(whole.choices[0].finish_reason, "length");
assert.equal(whole.choices[0].text.length, 24);
assert.deepEqual(whole.usage, { prompt_tokens: 7, completion_tokens: 24, total_tokens: 31 });

let text = "";
let usage = null;
for await (const chunk of await client.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.text ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(text, whole.choices[0].text);
assert.deepEqual(usage, whole.usage);

const stop = whole.choices[0].text.slice(8, 10);
const stopped = await client.completions.create({ ...request, stop: [stop] });
assert.equal(stopped.choices[0].text, whole.choices[0].text.split(stop)[0]);
assert.equal(stopped.choices[0].finish_reason, "stop");

await assert.rejects(client.completions.create({ ...request, model: "unknown" }), error =>
  error instanceof OpenAI.NotFoundError && error.code === "model_not_found" && error.message.includes("Published models: tiny"));
await assert.rejects(client.completions.create({ ...request, max_tokens: -1 }), error =>
  error instanceof OpenAI.BadRequestError && error.param === "max_tokens");

const stream = await client.completions.create({ ...request, max_tokens: 4096, stream: true });
for await (const _ of stream) {
  break; // leaves the stream, which closes the connection
}

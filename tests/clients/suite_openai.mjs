// The `openai` client of Node: chat, streams, tools that are run, schemas, responses, embeddings.
// usage: node suite_openai.mjs URL MODEL

import assert from "node:assert/strict";
import OpenAI, { BadRequestError, NotFoundError } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Hello" }];
const short = { model, messages, max_completion_tokens: 24, temperature: 0 };

const weather = {
  name: "weather",
  description: "The weather.",
  parameters: {
    type: "object",
    properties: { city: { type: "string", enum: ["Oslo", "Lima"] }, metric: { type: "boolean" } },
    required: ["city", "metric"],
    additionalProperties: false,
  },
};

const checks = {
  async "models are listed"() {
    const ids = [];
    for await (const each of client.models.list()) ids.push(each.id);
    assert(ids.includes(model), ids.join());
  },

  async "chat answers"() {
    const answer = await client.chat.completions.create(short);
    assert.equal(answer.object, "chat.completion");
    assert(answer.choices[0].message.content);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  },

  async "a stream is the same answer in parts"() {
    const whole = await client.chat.completions.create(short);
    let text = "";
    for await (const chunk of await client.chat.completions.create({ ...short, stream: true }))
      text += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(text, whole.choices[0].message.content);
  },

  async "a stream that is left does not disturb the next"() {
    const stream = await client.chat.completions.create({ ...short, max_completion_tokens: 2000, stream: true });
    for await (const _ of stream) break;
    assert((await client.chat.completions.create(short)).choices.length);
  },

  async "the client's own reader of streams works"() {
    const stream = client.chat.completions.stream(short);
    let text = "";
    stream.on("content", (part) => (text += part));
    const final = await stream.finalChatCompletion();
    assert.equal(text, final.choices[0].message.content);
  },

  async "tools are run"() {
    const calls = [];
    const run = (args) => {
      calls.push(args);
      return "3 degrees";
    };
    const tool = { type: "function", function: { ...weather, function: run, parse: JSON.parse } };
    const choice = { type: "function", function: { name: "weather" } };
    // A model of noise that begins to think does not come to an end with it.
    const calmly = { reasoning_effort: "none", max_completion_tokens: 300 };
    const asked = { ...short, ...calmly, tools: [tool], tool_choice: choice };
    await client.chat.completions.runTools(asked).done();
    await client.chat.completions.runTools({ ...asked, stream: true }).done();
    assert.equal(calls.length, 2);
    for (const { city, metric } of calls) assert(["Oslo", "Lima"].includes(city) && typeof metric === "boolean");
  },

  async "a zod schema is parsed"() {
    const Card = z.object({ suit: z.enum(["clubs", "hearts"]), marks: z.array(z.boolean()).min(1).max(3) });
    const asked = { ...short, max_completion_tokens: 300, response_format: zodResponseFormat(Card, "card") };
    const answer = await client.chat.completions.parse(asked);
    Card.parse(answer.choices[0].message.parsed);
  },

  async "a response is made, streamed, kept and deleted"() {
    const asked = { model, input: "Hello", max_output_tokens: 24, temperature: 0 };
    const whole = await client.responses.create(asked);
    assert(whole.output_text);
    let text = "";
    for await (const event of await client.responses.create({ ...asked, stream: true }))
      if (event.type === "response.output_text.delta") text += event.delta;
    assert.equal(text, whole.output_text);
    assert.equal((await client.responses.retrieve(whole.id)).output_text, whole.output_text);
    await client.responses.delete(whole.id);
    await assert.rejects(client.responses.retrieve(whole.id), NotFoundError);
  },

  async "embeddings have unit length"() {
    const answer = await client.embeddings.create({ model, input: ["a cat", "a dog"] });
    for (const { embedding } of answer.data)
      assert(Math.abs(embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
  },

  async "errors are those of the interface"() {
    await assert.rejects(client.chat.completions.create({ ...short, model: "no-such-model" }), NotFoundError);
    await assert.rejects(client.chat.completions.create({ ...short, temperature: 9 }), BadRequestError);
  },
};

let failed = 0;
for (const [name, run] of Object.entries(checks)) {
  const start = performance.now();
  try {
    await run();
    console.log(`ok   openai for node: ${name} (${((performance.now() - start) / 1000).toFixed(2)} s)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL openai for node: ${name}\n     ${String(error.stack ?? error).split("\n").slice(0, 6).join("\n     ")}`);
  }
}
process.exit(failed ? 1 : 0);

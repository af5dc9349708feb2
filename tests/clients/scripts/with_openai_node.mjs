// The openai package for Node, with zod: chats, tools, runTools, responses. The same contract as shared.py.

import { readFileSync } from "node:fs";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const model = process.env.MODEL;
const { instructions, labels, reviews } = JSON.parse(readFileSync(new URL("reviews.json", import.meta.url), "utf8"));
const Answer = z.object({ label: z.enum(labels) });
const client = new OpenAI(); // reads OPENAI_BASE_URL and OPENAI_API_KEY
const tool = zodFunction({ name: "answer", parameters: Answer });

const messages = (review) => [
  { role: "system", content: instructions },
  { role: "user", content: review },
];

// An answer in free text, which a model with random weights may write as it likes.
function text(answer) {
  if (typeof answer !== "string") throw new TypeError(`expected text, got ${JSON.stringify(answer)}`);
  return "text";
}

async function chat(review) {
  const answer = await client.chat.completions.create({ model, messages: messages(review), max_tokens: 16 });
  return text(answer.choices[0].message.content);
}

async function chatStream(review) {
  const chunks = await client.chat.completions.create({
    model,
    messages: messages(review),
    max_tokens: 16,
    stream: true,
  });
  let whole = "";
  for await (const chunk of chunks) whole += chunk.choices[0]?.delta?.content ?? "";
  return text(whole);
}

async function chatStreamHelper(review) {
  const stream = client.chat.completions.stream({
    model,
    messages: messages(review),
    response_format: zodResponseFormat(Answer, "answer"),
  });
  return (await stream.finalChatCompletion()).choices[0].message.parsed.label;
}

async function chatParse(review) {
  const answer = await client.chat.completions.parse({
    model,
    messages: messages(review),
    response_format: zodResponseFormat(Answer, "answer"),
  });
  return answer.choices[0].message.parsed.label;
}

async function chatTool(review) {
  const answer = await client.chat.completions.parse({
    model,
    messages: messages(review),
    tools: [tool],
    tool_choice: "required",
  });
  return answer.choices[0].message.tool_calls[0].function.parsed_arguments.label;
}

// The function is called once, as it is named: then the runner ends.
async function runTools(review) {
  let called;
  const named = zodFunction({ name: "answer", parameters: Answer, function: ({ label }) => (called = label) });
  const tool_choice = { type: "function", function: { name: "answer" } };
  await client.chat.completions.runTools({ model, messages: messages(review), tools: [named], tool_choice }).done();
  return called;
}

async function responses(review) {
  const answer = await client.responses.create({ model, instructions, input: review, max_output_tokens: 16 });
  return text(answer.output_text);
}

async function responsesParse(review) {
  const format = zodTextFormat(Answer, "answer");
  const answer = await client.responses.parse({ model, instructions, input: review, text: { format } });
  return answer.output_parsed.label;
}

async function responsesStream(review) {
  const format = zodTextFormat(Answer, "answer");
  const stream = client.responses.stream({ model, instructions, input: review, text: { format } });
  return (await stream.finalResponse()).output_parsed.label;
}

const ways = {
  chat,
  "chat, streamed": chatStream,
  "chat, stream() with a form": chatStreamHelper,
  "chat, parse": chatParse,
  "chat, tool": chatTool,
  "chat, runTools": runTools,
  responses,
  "responses, parse": responsesParse,
  "responses, stream()": responsesStream,
};
const results = {};
for (const [name, way] of Object.entries(ways)) {
  try {
    results[name] = [];
    for (const review of reviews) results[name].push(await way(review));
  } catch (error) {
    results[name] = String(error.stack);
  }
}
console.log(`\n${JSON.stringify(results)}`);

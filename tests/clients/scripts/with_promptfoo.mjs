// promptfoo: one evaluation with three providers, as a user writes it. The same contract as shared.py.

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const model = process.env.MODEL;
const { instructions, labels, reviews } = JSON.parse(readFileSync(new URL("reviews.json", import.meta.url), "utf8"));
const schema = {
  type: "object",
  properties: { label: { type: "string", enum: labels } },
  required: ["label"],
  additionalProperties: false,
};
const format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
const config = {
  prompts: [`${instructions} {{review}}`],
  providers: [
    { id: `openai:chat:${model}`, label: "openai:chat", config: { max_tokens: 16 } },
    { id: `openai:chat:${model}`, label: "openai:chat, response_format", config: { response_format: format } },
    { id: `openai:responses:${model}`, label: "openai:responses", config: { max_output_tokens: 16 } },
  ],
  tests: reviews.map((review) => ({ vars: { review } })),
};
writeFileSync("promptfooconfig.json", JSON.stringify(config));
const words = ["eval", "--config", "promptfooconfig.json", "--no-cache", "--no-progress-bar", "--output", "out.json"];
const quiet = { PROMPTFOO_DISABLE_TELEMETRY: "1", PROMPTFOO_DISABLE_UPDATE: "1", PROMPTFOO_CONFIG_DIR: process.cwd() };
const done = spawnSync("node_modules/.bin/promptfoo", words, {
  env: { ...process.env, ...quiet },
  stdio: ["ignore", "ignore", "inherit"],
});
if (done.error) throw done.error;

const results = {};
for (const { provider, response, error } of JSON.parse(readFileSync("out.json", "utf8")).results.results) {
  const answer = response?.output;
  const found = typeof answer === "object" ? answer?.label : typeof answer === "string" ? "text" : undefined;
  if (found === undefined || error) results[provider.label] = `${error}: ${JSON.stringify(response)}`;
  else if (typeof results[provider.label] !== "string") (results[provider.label] ??= []).push(found);
}
console.log(JSON.stringify(results));

// Opens the page in a headless browser and uses it as a person would.
// Arguments: folder with the package, path of the browser, URL of the page, folder for screenshots (optional).

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [, , folder, executablePath, url, screenshots] = process.argv;
const { chromium } = createRequire(`${folder}/`)("playwright-core");
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const problems = [];

async function open(width, height, colorScheme) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme });
  page.setDefaultTimeout(20_000);
  page.on("console", message => { if (["error", "warning"].includes(message.type())) { problems.push(message.text()); } });
  page.on("pageerror", error => problems.push(String(error)));
  page.on("request", request => { if (!request.url().startsWith(url)) { problems.push(`foreign request ${request.url()}`); } });
  await page.goto(url);
  await page.locator("#chart path.train").waitFor({ state: "attached" });
  await page.locator("#model option:not([value=''])").first().waitFor({ state: "attached" });
  return page;
}

const texts = (page, selector) => page.locator(selector).allTextContents();

async function picture(page, name) {
  if (screenshots) {
    await page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
  }
}

try {
  const page = await open(1280, 900, "light");
  await page.waitForTimeout(300); // lets transitions end before the picture
  assert.equal(await page.locator("#run-name").textContent(), "shakespeare");
  assert.equal(await page.locator("#run-state").textContent(), "training");
  assert.ok((await page.locator("#chart svg").getAttribute("aria-label")).includes("Validation loss is"));
  assert.equal(await page.locator("#workers li").count(), 2);
  await picture(page, "training-light");

  // Losses that are not finite are left out, the newest one too.
  assert.match(await page.locator("#chart-text").textContent(), /^Step 1,339: train \d\.\d{4}, validation \d\.\d{4} \(step 1,300\)$/);
  for (const path of await page.locator("#chart path").evaluateAll(paths => paths.map(p => p.getAttribute("d")))) {
    assert.match(path, /^M[\d.]+ [\d.]+(L[\d.]+ [\d.]+)+$/);
  }
  assert.equal(await page.locator("#connection").textContent(), "");
  assert.equal(await page.locator("#loss-unit").textContent(), "nats per token");

  // Back at step 700, the curve begins anew, and goes on from there.
  const change = async (route, edit) => {
    const response = await route.fetch();
    const json = await response.json();
    edit(json);
    await route.fulfill({ response, json });
  };
  await page.route(/\/metrics\?/, route => change(route, json => { json.metrics = json.metrics.filter(m => Number(m.step) <= 700); }));
  await page.route(/\/api\/runs\/shakespeare$/, route => change(route, json => { json.run.progress.step = "700"; }));
  await page.locator("#chart-text", { hasText: "Step 700: train" }).waitFor();
  await page.unrouteAll({ behavior: "wait" });
  await page.locator("#chart-text", { hasText: "Step 1,339: train" }).waitFor();

  // Another run, one that is over, with its evaluation beside the n-gram's.
  await page.getByRole("button", { name: /dotnet-docs/ }).click();
  await page.locator("#evaluation").waitFor();
  assert.equal(await page.locator("#evaluation-rows tr").count(), 2);
  assert.deepEqual(await texts(page, "#evaluation-head th"), ["Model", "Loss", "Perplexity", "Bits per byte", "Accuracy", "BLEU"]);
  assert.equal(await page.locator("#forgetting").isVisible(), false);
  await picture(page, "succeeded-light");

  // A classifier has classes, and labels that stay text; nothing is said of bytes.
  await page.getByRole("button", { name: /reviews/ }).click();
  await page.locator("#evaluation-head", { hasText: "Taken for <b>good</b>" }).waitFor();
  assert.deepEqual(await texts(page, "#evaluation-head th"), ["Class", "Documents", "Precision", "Recall", "F1", "Taken for bad", "Taken for <b>good</b>"]);
  assert.deepEqual(await texts(page, "#evaluation-rows > *:first-child > *"), ["bad", "2", "66.7 %", "100.0 %", "80.0 %", "2", "0"]);
  assert.equal(await page.locator("#evaluation-facts").textContent(), "test split, 5 documents");
  assert.equal(await page.locator("#evaluation-text").textContent(),
    "Accuracy 80.0 %, macro F1 80.0 %, loss 0.2500 nats a document; always “<b>good</b>” would be 60.0 %");
  assert.equal(await page.locator("#loss-unit").textContent(), "nats a document");
  await picture(page, "classifier-light");

  // A masked model, fine-tuned: its perplexity is none that another's compares with.
  await page.getByRole("button", { name: /filled-gaps/ }).click();
  await page.locator("#forgetting").waitFor();
  assert.deepEqual(await texts(page, "#evaluation-head th"), ["Model", "Loss", "Pseudo-perplexity", "Masked-token accuracy"]);
  assert.deepEqual(await texts(page, "#forgetting-rows > *:first-child > *"), ["base", "2.0000 (7.39)", "3.0000 (20.09)"]);
  assert.match(await page.locator("#evaluation-facts").textContent(), /1,500 masked tokens/);
  assert.equal(await page.locator("#loss-unit").textContent(), "nats per masked token");
  assert.equal(await page.locator("#evaluation-text").isVisible(), false);

  // The model writes markup, which stays text.
  await page.locator("#max-tokens").fill("60");
  await page.locator("#prompt").fill("<b>inert</b><img src=x onerror=alert(1)>");
  await page.getByRole("button", { name: "Generate" }).click();
  await page.locator("#speed", { hasText: "60 tokens" }).waitFor();
  await picture(page, "playground-light");
  assert.equal((await page.locator("#answer").textContent()).length, 60);
  assert.ok((await page.locator("#answer").textContent()).includes("<script>"));
  assert.equal(await page.locator(".answer script, .answer img, .answer b").count(), 0);

  // Leaving an answer: it stops, and the next one can begin.
  await page.locator("#max-tokens").fill("100000");
  await page.getByRole("button", { name: "Generate" }).click();
  await page.getByRole("button", { name: "Stop", exact: true }).click();
  await page.locator("#speed", { hasText: "stopped" }).waitFor();
  await page.locator("#max-tokens").fill("200000");
  await page.getByRole("button", { name: "Generate" }).click();
  await page.locator("#playground-error", { hasText: "max_tokens is 200000" }).waitFor();
  problems.splice(0, problems.length, ...problems.filter(p => !p.includes("400 (Bad Request)")));
  await page.close();

  const dark = await open(1280, 900, "dark");
  await dark.waitForTimeout(300);
  await picture(dark, "training-dark");
  await dark.close();

  const phone = await open(375, 740, "light");
  await phone.waitForTimeout(300);
  const overflow = await phone.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0, "the page scrolls sideways on a phone");
  const unnamed = await phone.evaluate(() => [...document.querySelectorAll("input, select, textarea, button")]
    .filter(e => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label"))).map(e => e.id));
  assert.deepEqual(unnamed, [], "controls without a name");
  await picture(phone, "phone");
  assert.deepEqual(problems, []);
} finally {
  await browser.close();
}

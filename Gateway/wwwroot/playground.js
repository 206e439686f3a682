// The playground: streams POST /v1/completions. What the model writes goes to the page as text only.

const $ = id => document.getElementById(id);
const numberOf = id => $(id).value === "" ? undefined : Number($(id).value);
let running = null;

async function loadModels() {
  try {
    const data = (await (await fetch("/v1/models")).json()).data.filter(m => !m.labels);
    const select = $("model");
    const chosen = select.dataset.chosen ?? data[0]?.id;
    const known = [...select.options].map(o => o.value).join();
    if (known !== data.map(m => m.id).join() || select.options.length === 0) {
      select.replaceChildren(...data.map(m => new Option(m.id, m.id, false, m.id === chosen)));
      if (data.length === 0) {
        select.append(new Option("no model is published yet", ""));
      }
    }
    const model = data.find(m => m.id === select.value);
    $("model-facts").textContent = model
      ? [`version ${model.version.split("/").at(-1)}`, model.parameter_count ? `${(model.parameter_count / 1e6).toFixed(2)} M parameters` : "",
        `context ${model.context_length}`, model.loss ? `loss ${model.loss.toFixed(3)}` : "", model.run ?? ""].filter(Boolean).join(" · ")
      : "Publish one by training a run; it appears here without a restart.";
    $("generate").disabled = !model || running !== null;
  } catch {
    // The runs' part of the page says that the Gateway does not answer.
  }
}

// Yields the data of each server-sent event.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) {
      return;
    }
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ")) {
        yield part.slice(6);
      }
    }
  }
}

// Shows text once a frame: a model can be faster than a page that lays itself out for every token, and Stop has to answer meanwhile.
function writer(target, box) {
  let pending = "";
  let frame = 0;
  const flush = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    if (pending !== "") {
      const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
      target.append(pending);
      pending = "";
      if (atEnd) {
        box.scrollTop = box.scrollHeight;
      }
    }
  };
  const write = text => {
    pending += text;
    frame ||= requestAnimationFrame(flush);
  };
  return { write, flush };
}

function fail(message) {
  $("playground-error").textContent = message;
  $("playground-error").hidden = message === "";
}

async function generate() {
  running = new AbortController();
  const box = $("answer").parentElement;
  const answer = writer($("answer"), box);
  const prompt = $("prompt").value;
  const started = performance.now();
  let first = 0;
  fail("");
  $("answer-prompt").textContent = prompt;
  $("answer").textContent = "";
  $("speed").textContent = "waiting";
  $("generate").disabled = true;
  $("stop").disabled = false;
  box.dataset.busy = "true";
  try {
    const stop = $("stop-text").value;
    const response = await fetch("/v1/completions", {
      method: "POST",
      signal: running.signal,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: $("model").value, prompt, stream: true, stream_options: { include_usage: true },
        max_tokens: numberOf("max-tokens"), temperature: numberOf("temperature"), top_p: numberOf("top-p"), top_k: numberOf("top-k"),
        seed: numberOf("seed"), stop: stop === "" ? undefined : stop.replaceAll("\\n", "\n"),
      }),
    });
    if (!response.ok) {
      throw new Error((await response.json()).error.message);
    }
    let yielded = performance.now();
    for await (const data of events(response.body)) {
      if (performance.now() - yielded > 10) { // buffered events alone would keep clicks and frames waiting
        await new Promise(resolve => setTimeout(resolve));
        yielded = performance.now();
      }
      if (data === "[DONE]") {
        break;
      }
      const chunk = JSON.parse(data);
      if (chunk.error) {
        throw new Error(chunk.error.message);
      }
      const text = chunk.choices[0]?.text ?? "";
      if (text !== "") {
        first ||= performance.now();
        answer.write(text);
      }
      if (chunk.usage) {
        answer.flush();
        const seconds = (performance.now() - started) / 1000;
        const count = chunk.usage.completion_tokens;
        $("speed").textContent = `${count} tokens, ${(count / seconds).toFixed(0)} tokens/s` + (first ? `, first after ${Math.round(first - started)} ms` : "");
      }
    }
  } catch (error) {
    $("speed").textContent = error.name === "AbortError" ? "stopped" : "";
    if (error.name !== "AbortError") {
      fail(error.message);
    }
  } finally {
    answer.flush();
    running = null;
    delete box.dataset.busy;
    $("stop").disabled = true;
    await loadModels();
  }
}

export function startPlayground() {
  for (const id of ["temperature", "top-p"]) {
    const show = () => { document.querySelector(`output[for="${id}"]`).textContent = Number($(id).value).toFixed(2); };
    $(id).addEventListener("input", show);
    show();
  }
  $("model").addEventListener("change", () => {
    $("model").dataset.chosen = $("model").value;
    loadModels();
  });
  $("form").addEventListener("submit", event => {
    event.preventDefault();
    if (running === null && $("model").value !== "") {
      generate();
    }
  });
  $("stop").addEventListener("click", () => running?.abort());
  $("prompt").addEventListener("keydown", event => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      $("form").requestSubmit();
    }
  });
  loadModels();
  setInterval(() => { if (!document.hidden && running === null) { loadModels(); } }, 2000);
}

// tiktoken: encodes documents with a given vocabulary.
// node tiktoken-encode.cjs NODE_MODULES VOCABULARY PATTERN DOCUMENTS WARM_DOCUMENTS PASSES
// VOCABULARY has one token a line in base64, by id from 1. DOCUMENTS is JSON: an array of texts.
const fs = require('fs');
const [modules, vocabulary, pattern, documents, warm, passes] = process.argv.slice(2);
const { Tiktoken } = require(modules + '/tiktoken');
const ranks = '! 1 ' + fs.readFileSync(vocabulary, 'utf8').trim().split('\n').join(' ');
const encoding = new Tiktoken(ranks, { '<|endoftext|>': 0 }, pattern);

function pass(texts) {
  const wall = process.hrtime.bigint();
  const cpu = process.cpuUsage();
  let tokens = 0;
  const ids = [];
  for (const text of texts) {
    const encoded = encoding.encode_ordinary(text);
    tokens += encoded.length;
    ids.push(encoded);
  }
  const used = process.cpuUsage(cpu);
  return { wall: Number(process.hrtime.bigint() - wall) / 1e9, cpu: (used.user + used.system) / 1e6, tokens, ids };
}

pass(JSON.parse(fs.readFileSync(warm, 'utf8')));
const texts = JSON.parse(fs.readFileSync(documents, 'utf8'));
const results = Array.from({ length: Number(passes) }, () => pass(texts));
const hash = require('crypto').createHash('sha256');
for (const ids of results[0].ids) {
  hash.update(new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength));
}
results.sort((a, b) => a.wall - b.wall);
const median = results[results.length >> 1];
console.log('wall_seconds=' + median.wall);
console.log('cpu_seconds=' + median.cpu);
console.log('tokens=' + median.tokens);
console.log('ids=' + hash.digest('hex'));

// Encodes and decodes texts with Hugging Face tokenizers and compares with what this project gave.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const [, , folder, casesFile] = process.argv;
const { Tokenizer } = createRequire(join(folder, 'package.json'))('tokenizers');
let failures = 0;
let compared = 0;
for (const { file, cases } of JSON.parse(readFileSync(casesFile, 'utf8'))) {
  const tokenizer = Tokenizer.fromFile(file);
  for (const { text, ids, decoded } of cases) {
    const theirs = (await tokenizer.encode(text, null, { addSpecialTokens: false })).getIds();
    if (JSON.stringify(theirs) !== JSON.stringify(ids)) {
      failures++;
      console.log(`${file}: ${JSON.stringify(text)}\n  ours   ${ids}\n  theirs ${theirs}`);
    } else if (decoded !== null && (await tokenizer.decode(ids, true)) !== decoded) {
      failures++;
      console.log(`${file}: ${JSON.stringify(text)}\n  ours   ${JSON.stringify(decoded)}\n  theirs ${JSON.stringify(await tokenizer.decode(ids, true))}`);
    }
    compared++;
  }
}
console.log(`${compared} compared, ${failures} different`);
process.exit(failures === 0 && compared > 0 ? 0 : 1);

// Hugging Face tokenizers: byte-level BPE with GPT-2's splitting, trained on a file. Its binding always makes 30,000 tokens.
// node hf-train.cjs NODE_MODULES TEXT OUTPUT
const [modules, text, output] = process.argv.slice(2);
const { Tokenizer, BPE, byteLevelPreTokenizer } = require(modules + '/tokenizers');
const tokenizer = new Tokenizer(BPE.empty());
tokenizer.setPreTokenizer(byteLevelPreTokenizer(false, true));
tokenizer.train([text]);
tokenizer.save(output);
console.log('tokens=' + tokenizer.getVocabSize());

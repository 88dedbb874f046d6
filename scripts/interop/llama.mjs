// Greedy tokens of a GGUF file by llama.cpp.
//
//     node llama.mjs FILE N PROMPT        text, or "#1 403 407": tokens
//
// Prints {"prompt": [tokens], "tokens": [N tokens]}.
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [file, count, prompt] = process.argv.slice(2);
const llama = await getLlama(
    {gpu: false, build: "never", skipDownload: true, logLevel: LlamaLogLevel.error});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: model.trainContextSize, threads: 1});
const sequence = context.getSequence();
const tokens = prompt.startsWith("#") ? prompt.slice(1).trim().split(/\s+/).map(Number)
                                      : model.tokenize(prompt);
const out = [];

for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
    out.push(token);
    if (out.length >= Number(count))
        break;
}
console.log(JSON.stringify({prompt: Array.from(tokens), tokens: out}));
await llama.dispose();

// Ids by Hugging Face's tokenizers against ids of ours.
//
//     node tokenizer.mjs TOKENIZER.JSON TEXT IDS
//
// IDS are 32-bit little-endian numbers of the whole TEXT, as bench_tokenizer writes them.
// Prints how many agree; exits with 1 at the first difference.
import {readFileSync} from "node:fs";
import {Tokenizer} from "@anush008/tokenizers";

const [json, textPath, idsPath] = process.argv.slice(2);
const tokenizer = Tokenizer.fromFile(json);
const text = readFileSync(textPath, "utf8");
const bytes = readFileSync(idsPath);
const ours = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
const theirs = (await tokenizer.encode(text, null, {addSpecialTokens: false})).getIds();

for (let i = 0; i < Math.max(ours.length, theirs.length); i++) {
    if (ours[i] !== theirs[i]) {
        console.log(`token ${i} of ${theirs.length}: theirs ${theirs[i]}, ours ${ours[i]}`);
        process.exit(1);
    }
}
console.log(`${ours.length} ids agree`);

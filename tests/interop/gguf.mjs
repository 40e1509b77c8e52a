// SPDX-License-Identifier: MIT
// Parses GGUF files with @huggingface/gguf and compares every key and tensor with what nibble's
// reader sees; checks that a chat template came through whole, and how an importance matrix is built.
//
//   node gguf.mjs CASES
//
// CASES: one line per file, tab separated: GGUF file, our dump (from gguf_dump), and what else to
// check: "model FOLDER" (the Hugging Face folder it came from) or "imatrix CHUNKS CTX" or nothing.
import {openSync, readSync, readFileSync, existsSync} from "node:fs";
import {basename} from "node:path";
import {gguf, GGUFValueType} from "@huggingface/gguf";

const ARRAY = GGUFValueType.ARRAY;
let problems = [];
const check = (ok, message) => { if (!ok) problems.push(message); };
const plain = (v) => Array.isArray(v) ? v.map(plain) : typeof v === "bigint" ? Number(v) : v;

function compareKeys(typed, kv) {
    const {version, tensor_count: tensors, kv_count: count, ...theirs} = typed;
    check(version.value === 3, `version ${version.value}`);
    check(Number(count.value) === kv.length, `${count.value} keys, nibble sees ${kv.length}`);
    check(Object.keys(theirs).join() === kv.map((k) => k.key).join(), "keys or their order differ");
    for (const {key, type, elem, value} of kv) {
        const other = theirs[key] ?? {};
        check(other.type === type, `${key}: type ${other.type}, nibble sees ${type}`);
        if (type === ARRAY) check(other.subType === elem, `${key}: elements of type ${other.subType}, nibble sees ${elem}`);
        // The dump gives 15 digits, enough to find the f32 again.
        const ours = (elem ?? type) === GGUFValueType.FLOAT32 ? [value].flat().map(Math.fround) : [value].flat();
        check(JSON.stringify(plain([other.value].flat())) === JSON.stringify(ours), `${key}: values differ`);
    }
    return Number(tensors.value);
}

function compareTensors(parsed, tensors) {
    check(parsed.tensorInfos.length === tensors.length, `${parsed.tensorInfos.length} tensors, nibble sees ${tensors.length}`);
    parsed.tensorInfos.forEach((t, i) => {
        const theirs = [t.name, t.dtype, plain(t.shape), Number(parsed.tensorDataOffset + t.offset)];
        const o = tensors[i] ?? {};
        const ours = [o.name, o.type, o.shape, o.offset];
        check(JSON.stringify(theirs) === JSON.stringify(ours), `tensor ${i}: ${JSON.stringify(theirs)}, nibble sees ${JSON.stringify(ours)}`);
    });
}

function checkModel(typed, folder) {
    const config = `${folder}/tokenizer_config.json`;
    const template = existsSync(config) ? JSON.parse(readFileSync(config, "utf8")).chat_template : undefined;
    check(typed["tokenizer.chat_template"]?.value === template, "the chat template differs");
    check(typed["general.quantization_version"]?.value === 2, "general.quantization_version should be 2");
    for (const key of ["general.file_type", "tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id"])
        check(typed[key] !== undefined, `${key} is missing`);
    const vocab = JSON.parse(readFileSync(`${folder}/config.json`, "utf8")).vocab_size;
    const tokens = typed["tokenizer.ggml.tokens"]?.value ?? [];
    check(tokens.length === vocab, `${tokens.length} tokens, the embedding has ${vocab} rows`);
    check(new Set(tokens).size === tokens.length, "a token is there twice");
    check(typed["tokenizer.ggml.token_type"]?.value.length === vocab, "token types and tokens differ in number");
}

// F32 data of a tensor, from the file itself.
function values(fd, parsed, t) {
    const n = plain(t.shape).reduce((a, b) => a * b, 1);
    const bytes = Buffer.alloc(4 * n);
    readSync(fd, bytes, 0, bytes.length, Number(parsed.tensorDataOffset + t.offset));
    return new Float32Array(bytes.buffer, bytes.byteOffset, n);
}

function checkImatrix(path, parsed, chunks, ctx) {
    const typed = parsed.typedMetadata;
    check(typed["general.type"]?.value === "imatrix", "general.type should be imatrix");
    check(typed["general.architecture"] === undefined, "an importance matrix has no architecture");
    check(typed["imatrix.datasets"]?.subType === GGUFValueType.STRING, "imatrix.datasets should be strings");
    for (const [key, expected] of [["imatrix.chunk_count", chunks], ["imatrix.chunk_size", ctx]])
        check(typed[key]?.type === GGUFValueType.UINT32 && typed[key].value === expected, `${key}: ${typed[key]?.value}, expected ${expected}`);
    const fd = openSync(path), infos = parsed.tensorInfos, sums = {};
    check(infos.length > 0 && infos.length % 2 === 0, `${infos.length} tensors`);
    for (let i = 0; i + 1 < infos.length; i += 2) {
        const [sum, count] = [infos[i], infos[i + 1]];
        const name = sum.name.replace(/\.in_sum2$/, "");
        check(sum.name === `${name}.in_sum2` && count.name === `${name}.counts`, `pair ${sum.name}, ${count.name}`);
        check(sum.dtype === 0 && count.dtype === 0, `${name}: should be F32`);
        check(values(fd, parsed, count).every((v) => v === chunks * ctx), `${name}: counts ${values(fd, parsed, count)}`);
        sums[name] = values(fd, parsed, sum);
        check(sums[name].every((v) => v >= 0 && v < Infinity), `${name}: a sum is negative or not finite`);
        check(sums[name].some((v) => v > 0), `${name}: all sums are 0`);
    }
    const names = Object.keys(sums);
    check(names.join() === [...names].sort().join(), "weights are not in the order of their names");
    const same = (a, b) => check(sums[a] && String(sums[a]) === String(sums[b]), `${a} and ${b} read the same input`);
    same("blk.0.attn_q.weight", "blk.0.attn_v.weight");
    same("blk.1.ffn_gate.weight", "blk.1.ffn_up.weight");
}

let failures = 0;
const cases = readFileSync(process.argv[2], "utf8").split("\n").filter(Boolean).map((line) => line.split("\t"));
for (const [path, dump, more] of cases) {
    problems = [];
    const ours = JSON.parse(readFileSync(dump, "utf8"));
    const parsed = await gguf(path, {typedMetadata: true, allowLocalFile: true});
    const count = compareKeys(parsed.typedMetadata, ours.kv);
    check(count === ours.tensors.length, `${count} tensors announced`);
    compareTensors(parsed, ours.tensors);
    const [kind, ...args] = (more ?? "").split(" ");
    if (kind === "model") checkModel(parsed.typedMetadata, args[0]);
    if (kind === "imatrix") checkImatrix(path, parsed, Number(args[0]), Number(args[1]));
    console.log(`${basename(path)}: ${ours.kv.length} keys, ${ours.tensors.length} tensors ${problems.length ? "FAILED" : "ok"}`);
    problems.slice(0, 10).forEach((p) => console.log(`  ${p.slice(0, 300)}`));
    if (problems.length) failures++;
}
process.exit(failures || cases.length === 0 ? 1 : 0);

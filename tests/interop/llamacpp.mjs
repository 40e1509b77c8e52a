// SPDX-License-Identifier: MIT
// Loads GGUF files in llama.cpp and compares with nibble: log-probabilities over a text, and token
// ids of many strings.
//
//   node llamacpp.mjs CASES STRINGS [RESULTS]
//
// CASES: one line per file, tab separated: label, GGUF file, our answers (from logprobs), bound of
// the mean absolute difference. Prints a table; exit status 1 when a bound is exceeded. For RESULTS, which gets one
// JSON object a line, two more: the model and the scheme, as tests/engines has them.
import {appendFileSync, readFileSync} from "node:fs";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [casesPath, stringsPath, resultsPath] = process.argv.slice(2);
const cases = readFileSync(casesPath, "utf8").split("\n").filter(Boolean).map((line) => line.split("\t"));
const strings = JSON.parse(readFileSync(stringsPath, "utf8"));

// Neither builds nor downloads; keys and values are cached as F32, as nibble has them.
const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, progressLogs: false, maxThreads: 2,
    logLevel: LlamaLogLevel.warn
});

async function evaluate(model, ids, wanted) {
    const context = await model.createContext({
        contextSize: 512, batchSize: 512, threads: 2, flashAttention: false,
        experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
    });
    // includeTop, not includeMax: that one leaves the largest out unless it was asked for by id.
    const input = ids.map((id, i) => i < wanted.length
        ? [id, {generateNext: {logits: {filter: {tokens: wanted[i], includeTop: 1}}, totalLogitWeight: true}}]
        : id);
    const output = await context.getSequence().controlledEvaluate(input);
    const result = wanted.map((tokens, i) => {
        const {logits, totalLogitWeight} = output[i].next;
        const base = Math.max(...logits.values()) + Math.log(totalLogitWeight);
        return tokens.map((token) => logits.get(token) - base);
    });
    await context.dispose();
    return result;
}

function difference(theirs, ours) {
    let next = 0, top = 0, worst = 0, n = 0;
    for (let i = 0; i < theirs.length; i++) {
        const d = Math.abs(theirs[i][0] - ours.logprob[i]);
        next += d;
        worst = Math.max(worst, d);
        ours.top[i].forEach(([, logprob], k) => { top += Math.abs(theirs[i][k + 1] - logprob); n++; });
    }
    return {next: next / theirs.length, top: top / n, worst};
}

function differingStrings(model, ours, label) {
    // llama.cpp does not normalize; families whose tokenizer asks for NFC differ there.
    const nfc = label.startsWith("qwen");
    let bad = 0;
    strings.forEach((text, i) => {
        if (nfc && text !== text.normalize("NFC")) return;
        const theirs = Array.from(model.tokenize(text, false));
        if (theirs.join() === ours.strings[i].join()) return;
        bad++;
        console.log(`  ${label}: ${JSON.stringify(text.slice(0, 60))}\n    llama.cpp ${theirs}\n    nibble    ${ours.strings[i]}`);
    });
    return bad;
}

let failures = 0;
console.log("file                          next      top     worst  bound  strings");
for (const [label, path, oursPath, bound, name, scheme] of cases) {
    const ours = JSON.parse(readFileSync(oursPath, "utf8"));
    const model = await llama.loadModel({modelPath: path, gpuLayers: 0, checkTensors: true});
    const wanted = ours.logprob.map((_, i) => [ours.ids[i + 1], ...ours.top[i].map(([id]) => id)]);
    const d = difference(await evaluate(model, ours.ids, wanted), ours);
    const bad = differingStrings(model, ours, label);
    const bos = model.tokens.shouldPrependBosToken ? model.tokens.bos : -1;
    const bosWrong = bos >= 0 ? ours.ids[0] !== bos : model.tokens.bos === ours.ids[0];
    // A NaN is no "less than": written so that it fails.
    const ok = d.next < Number(bound) && d.top < Number(bound) && bad === 0 && !bosWrong;
    if (!ok) failures++;
    console.log(`${label.padEnd(24)} ${d.next.toFixed(6)} ${d.top.toFixed(6)} ${d.worst.toFixed(6)}  ${bound.padEnd(5)}` +
        `  ${strings.length - bad}/${strings.length} ${bosWrong ? "BOS differs " : ""}${ok ? "ok" : "FAILED"}`);
    if (resultsPath) {
        appendFileSync(resultsPath, JSON.stringify({
            engine: "llama.cpp", version: llama.llamaCppRelease.release, case: label, model: name, container: "gguf",
            scheme, mean: (d.next + 3 * d.top) / 4, max: d.worst, bound: Number(bound),
            strings: `${strings.length - bad}/${strings.length}`, begins: !bosWrong
        }) + "\n");
    }
    await model.dispose();
}
console.log(`${cases.length} files, ${failures} failed`);
process.exit(failures || cases.length === 0 ? 1 : 0);

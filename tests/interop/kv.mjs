// SPDX-License-Identifier: MIT
// Perplexity by llama.cpp with keys and values in its cache's formats, as its perplexity program computes it.
//
//   node kv.mjs N_CTX N_CHUNKS TOKENS GGUF KEYS,VALUES...
//
// TOKENS: JSON, the ids of the text, BOS in front. KEYS, VALUES: names of formats, as -ctk and -ctv take them. Prints a line
// for each pair.
import {readFileSync} from "node:fs";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [ctxArg, chunksArg, tokensPath, path, ...pairs] = process.argv.slice(2);
const nCtx = Number(ctxArg), nChunks = Number(chunksArg), first = Math.floor(nCtx / 2);
const ids = JSON.parse(readFileSync(tokensPath, "utf8"));

const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, progressLogs: false, maxThreads: 2, logLevel: LlamaLogLevel.warn
});
const model = await llama.loadModel({modelPath: path, gpuLayers: 0, checkTensors: true});

// The losses of a chunk's scored positions, added up.
async function loss(chunk, next, keys, values) {
    const context = await model.createContext({
        contextSize: nCtx, batchSize: nCtx, threads: 2, flashAttention: true,
        experimentalKvCacheKeyType: keys.toUpperCase(), experimentalKvCacheValueType: values.toUpperCase()
    });
    const input = chunk.map((id, i) => i >= first && i < nCtx - 1
        ? [id, {generateNext: {logits: {filter: {tokens: [next[i]], includeTop: 1}}, totalLogitWeight: true}}] : id);
    const output = await context.getSequence().controlledEvaluate(input);
    let sum = 0;
    for (let i = first; i < nCtx - 1; i++) {
        const {logits, totalLogitWeight} = output[i].next;
        sum += Math.max(...logits.values()) + Math.log(totalLogitWeight) - logits.get(next[i]);
    }
    await context.dispose();
    return sum;
}

for (const pair of pairs) {
    const [keys, values] = pair.split(",");
    let sum = 0;
    for (let c = 0; c < nChunks; c++) {
        const chunk = ids.slice(c * nCtx, (c + 1) * nCtx), next = chunk.slice(1);
        if (model.tokens.shouldPrependBosToken) chunk[0] = model.tokens.bos;
        sum += await loss(chunk, next, keys, values);
    }
    console.log(Math.exp(sum / (nChunks * (nCtx - 1 - first))).toFixed(4));
}
process.exit(0);

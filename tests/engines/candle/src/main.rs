// SPDX-License-Identifier: MIT
//! A GGUF file run by candle: log-probabilities of a row of token ids, beside nibble's.
//!
//!     candle-engine FILE ANSWERS
//!
//! ANSWERS: what tests/interop/logprobs.c wrote for the same file. Prints {"mean": …, "max": …}, the differences over each
//! position's next token and nibble's three most probable. Tokens go in one at a time: candle gives logits of the last alone.
use candle_core::quantized::gguf_file;
use candle_core::{Device, Tensor};
use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
use std::fs::File;

type Error = Box<dyn std::error::Error>;

enum Model {
    Llama(quantized_llama::ModelWeights),
    Qwen2(quantized_qwen2::ModelWeights),
    Qwen3(quantized_qwen3::ModelWeights),
}

impl Model {
    fn open(path: &str, device: &Device) -> Result<Model, Error> {
        let mut file = File::open(path)?;
        let content = gguf_file::Content::read(&mut file)?;
        let architecture = content.metadata.get("general.architecture").ok_or("no general.architecture")?.to_string()?.clone();
        Ok(match architecture.as_str() {
            "llama" => Model::Llama(quantized_llama::ModelWeights::from_gguf(content, &mut file, device)?),
            "qwen2" => Model::Qwen2(quantized_qwen2::ModelWeights::from_gguf(content, &mut file, device)?),
            "qwen3" => Model::Qwen3(quantized_qwen3::ModelWeights::from_gguf(content, &mut file, device)?),
            other => return Err(format!("no architecture '{other}'").into()),
        })
    }

    fn forward(&mut self, x: &Tensor, position: usize) -> candle_core::Result<Tensor> {
        match self {
            Model::Llama(m) => m.forward(x, position),
            Model::Qwen2(m) => m.forward(x, position),
            Model::Qwen3(m) => m.forward(x, position),
        }
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().cloned().fold(f32::MIN, f32::max) as f64;
    let sum: f64 = logits.iter().map(|&v| (v as f64 - most).exp()).sum();
    logits.iter().map(|&v| v as f64 - most - sum.ln()).collect()
}

fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, answers] = &args[..] else { return Err("candle-engine FILE ANSWERS".into()) };
    let ours: serde_json::Value = serde_json::from_reader(File::open(answers)?)?;
    let ids: Vec<u32> = serde_json::from_value(ours["ids"].clone())?;
    let logprob: Vec<f64> = serde_json::from_value(ours["logprob"].clone())?;
    let top: Vec<Vec<(u32, f64)>> = serde_json::from_value(ours["top"].clone())?;
    let device = Device::Cpu;
    let mut model = Model::open(file, &device)?;
    let (mut sum, mut max, mut n) = (0.0, 0.0f64, 0);
    for (i, lp) in logprob.iter().enumerate() {
        let x = Tensor::new(&[ids[i]], &device)?.unsqueeze(0)?;
        let theirs = log_softmax(&model.forward(&x, i)?.flatten_all()?.to_vec1::<f32>()?);
        for (token, value) in top[i].iter().chain(std::iter::once(&(ids[i + 1], *lp))) {
            let d = (theirs[*token as usize] - value).abs();
            let d = if d.is_nan() { f64::INFINITY } else { d };
            sum += d;
            max = max.max(d);
            n += 1;
        }
    }
    println!("{{\"mean\": {:e}, \"max\": {:e}}}", sum / n as f64, max);
    Ok(())
}

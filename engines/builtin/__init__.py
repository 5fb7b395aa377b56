"""The engine that detrec brings: Qwen2, Qwen3 and Llama decoders, batched continuously."""

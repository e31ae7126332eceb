"""Fine-tune the encoders themselves (LoRA or last blocks) in one process or several."""

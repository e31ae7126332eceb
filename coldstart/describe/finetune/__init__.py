"""Fine-tune models that write: LoRA, DPO and the small vision-language model."""

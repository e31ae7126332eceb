"""Fine-tune models that write descriptions: LoRA, DPO and the small vision-language model."""

"""Write descriptions of items, check every claim, fine-tune the model that writes, evaluate it."""

"""Fine-tuning jobs as callers ask for them: checked at the door, made once, looked at in OpenAI's terms."""

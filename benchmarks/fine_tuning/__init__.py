"""What fine-tuning reaches, through the running service: held-out accuracy, time, trained share."""

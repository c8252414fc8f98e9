"""`taskmask variance`: how much the choice of masks makes the trainer's gradient vary."""

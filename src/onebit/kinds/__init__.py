"""What a kind of task whose inputs are arrays needs above training and running: its data to measure on, its figures and its picture."""

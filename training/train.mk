# The verbs of training; PYTHON comes from the Makefile.

train: $(READY) ## run the whole training study under MLflow and register its winner as challenger
	@$(PYTHON) training/train.py

notebook: $(READY) ## execute training/model_training.ipynb from top to bottom
	@$(PYTHON) training/notebook.py

intervals: $(READY) ## score intervals and estimated errors into docs/intervals.md
	@$(PYTHON) -m training.intervals --write

.PHONY: train notebook intervals

"""What a served model is worth on labelled data: metrics, their intervals, and the judgement by a model's gates."""

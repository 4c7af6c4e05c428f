"""Action detection: trained, scored and predicted in boxes of people in key frames."""

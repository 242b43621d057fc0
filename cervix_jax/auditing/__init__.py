"""A folder of photographs to findings: what is damaged, duplicated, mislabelled, blurred or badly lit."""

"""What people who operate the pipeline ask and do: lag, status, waiting, explaining, failures, libraries."""

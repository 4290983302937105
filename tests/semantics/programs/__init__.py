"""Small programs written as torch code, by topic; `table.CASES` holds all of them once the topics are imported."""

"""Which endpoint gets a request and when: balance, breaker, waiting line, budget of retries."""

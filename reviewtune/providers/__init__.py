"""Model providers: clients, prices, budgets, cached answers, and requests online or in batches."""

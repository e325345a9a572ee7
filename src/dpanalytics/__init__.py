"""Privacy-preserving learner analytics: noisy aggregates, identified results by consent."""

"""What benchmarks, figures and examples share: data, networks, collected results, reports."""

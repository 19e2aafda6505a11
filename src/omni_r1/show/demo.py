"""`omni-r1 demo`: the miniature on its held-out bench, offline, with a table and a page to look at."""

from omni_r1 import shipped
from omni_r1.bench.run import run_bench
from omni_r1.options import SHIPPED, BenchOptions, DemoOptions
from omni_r1.show.report import report
from omni_r1.show.table import table

LONGEST = 400  # tokens; the board's three drawings and its words take about 260


def demo(options: DemoOptions) -> int:
    """The verb: bench, table on the terminal, report.html beside the records."""
    folder, summary, code = run_bench(
        BenchOptions(
            model_path=SHIPPED,
            output_dir=options.output_dir,
            control_path=str(shipped.CONTROL) if options.control else None,
            max_new_tokens=LONGEST,
            limit=options.limit,
            batch_size=options.batch_size,
            device=options.device,
            resume=False,
        )
    )
    page = report(folder)
    print(table(summary))
    print(f"\n{summary['tokens_per_second']:.0f} tokens/s, {summary['seconds']:.0f} s in all. Look at {page}")
    return code

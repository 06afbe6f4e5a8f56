/**
 * The page of figures: `deno task performance [--only PART]... [--short] [--draw]` measures its parts one after the other, keeps what was measured in
 * `docs/figures`, and writes tables into `docs/performance.md` and pictures beside the figures. A part is a section of `deno task bench`.
 *
 * @module
 */
import { readText } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { FIGURES, pathOf, readRecord, type Recorded, writeFile } from "../bench/page/record.ts";
import { partsOf, picturesOf, withFigures } from "../bench/page/text.ts";

const PAGE = new URL("./performance.md", import.meta.url).pathname;
const USAGE = `usage: deno task performance [--only PART]... [--short] [--draw]
  --only   this part; may be given more than once
  --short  few rounds: to see that everything works; nothing is kept
  --draw   measure nothing: tables and pictures out of what was measured`;

interface Arguments {
  readonly parts: readonly string[];
  readonly short: boolean;
  readonly draw: boolean;
}

/** @throws UsageError */
function parse(args: readonly string[], known: readonly string[]): Arguments {
  const parts: string[] = [];
  let short = false, draw = false;
  for (let i = 0; i < args.length; i++) {
    if (args[i] === "--only") parts.push(args[++i] ?? "");
    else if (args[i] === "--short") short = true;
    else if (args[i] === "--draw") draw = true;
    else throw new UsageError(`${args[i]} is not an option`, { hint: USAGE });
  }
  const wrong = parts.find((part) => !known.includes(part));
  if (wrong !== undefined) {
    throw new UsageError(`the page has no part ${JSON.stringify(wrong)}`, {
      hint: `it has ${known.join(", ")}`,
    });
  }
  return { parts: parts.length === 0 ? known : parts, short, draw };
}

/** @returns undefined when the benchmark failed, which it has told */
async function measure(part: string, short: boolean): Promise<Recorded | undefined> {
  const args = ["task", "--quiet", "bench", "--only", part, ...(short ? ["--short"] : [])];
  const date = `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const { success, stdout } = await new Deno.Command(Deno.execPath(), {
    args: [...args, "--json"],
    cwd: new URL("../", import.meta.url).pathname,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).output();
  if (!success) return undefined;
  const { machine, sections, seconds, short: few } = JSON.parse(new TextDecoder().decode(stdout));
  return {
    date,
    command: `deno ${args.join(" ").replace(" --quiet", "")}`,
    machine,
    short: few,
    seconds,
    sections,
  };
}

/** @returns whether all that can be measured here was */
async function measureAll({ parts, short }: Arguments): Promise<boolean> {
  let all = true;
  for (const part of parts) {
    const record = await measure(part, short);
    if (record === undefined) {
      console.error(`${part}: failed; what was measured before stays`);
      all = false;
    } else if (record.sections.every(({ figures }) => figures.length === 0)) {
      const why = record.sections.flatMap(({ notes }) => notes).join("; ");
      console.error(`${part}: ${why}; what was measured before stays`);
    } else {
      console.error(`${part}: ${record.seconds.toFixed(0)} s`);
      if (!short) writeFile(pathOf(part), `${JSON.stringify(record, null, 1)}\n`);
    }
  }
  return all;
}

function draw(): void {
  const page = readText(PAGE);
  writeFile(PAGE, withFigures(page, readRecord));
  for (const part of partsOf(page)) {
    const record = readRecord(part);
    if (record === undefined) continue;
    for (const { file, svg } of picturesOf(part, record)) writeFile(new URL(file, FIGURES).pathname, svg);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const wanted = parse(args, partsOf(readText(PAGE)));
  const all = wanted.draw || await measureAll(wanted);
  draw();
  return all ? 0 : 1;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    console.error(`performance: ${error.message}\n${error.hint}`);
    Deno.exit(2);
  }
}

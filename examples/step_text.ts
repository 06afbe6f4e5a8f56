/**
 * How a step is printed.
 *
 * @module
 */

const LABEL_COLUMNS = 11;
const LINE_COLUMNS = 100;

/** `bind        0000:01:00.0 to vfio-pci`: a label and what was found, folded at spaces, with the lines below one another. */
export function stepText(what: string, found: string): string {
  const lines: string[] = [];
  let line = what.padEnd(LABEL_COLUMNS);
  for (const word of found.split(" ")) {
    if (line.trimEnd().length > LABEL_COLUMNS && line.length + 1 + word.length > LINE_COLUMNS) {
      lines.push(line);
      line = " ".repeat(LABEL_COLUMNS);
    }
    line += ` ${word}`;
  }
  return [...lines, line].join("\n");
}

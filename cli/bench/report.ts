/**
 * What was measured, as a table, JSON and a plot.
 *
 * @module
 */
import type { InterruptKind } from "../../drivers/blk/virtio_blk.ts";
import { print, printJson, printTable, remark } from "../output.ts";
import { writePicture } from "../svg.ts";
import { plotSvg } from "./plot_svg.ts";
import { type Report, timeText } from "./points.ts";

/** Prints it, and writes the plot when there is a file for it. */
export function tell(
  report: Report,
  { json, svg }: { readonly json: boolean; readonly svg: string | undefined },
): void {
  const { title, note, points, interrupted, facts } = report;
  if (svg !== undefined) writePicture(svg, plotSvg(report));
  const ownOutput = svg === "-";
  if (json) {
    if (!ownOutput) printJson({ ...facts, interrupted, points, ...(svg === undefined ? {} : { svg }) });
    return;
  }
  if (ownOutput) return;
  print(title);
  print(note);
  print();
  const counted = Object.keys(points[0]?.counts ?? {});
  const rows = points.map((point) => [
    point.way,
    String(point.each),
    String(point.perSecond),
    report.what === "frames"
      ? (point.bytesPerSecond * 8 / 1e9).toFixed(3)
      : (point.bytesPerSecond / 1e6).toFixed(1),
    ...[point.microseconds.p50, point.microseconds.p90, point.microseconds.p99].map(timeText),
    ...[point.microseconds.p999, point.microseconds.max].map(timeText),
    ...counted.map((name) => String(point.counts[name])),
  ]);
  const units = report.what === "frames" ? ["FRAMES/S", "GBIT/S"] : ["IOPS", "MB/S"];
  const head = ["WAY", report.each.toUpperCase(), ...units, "P50", "P90", "P99", "P99.9", "MAX"];
  printTable(...rightAligned([...head, ...counted.map((name) => name.toUpperCase())], rows), {
    drop: [5],
    shrink: [],
  });
  if (interrupted) remark("interrupted: what was measured until then");
}

/** How interrupts come, for a note. */
export function kindText(kind: InterruptKind): string {
  return kind === "none" ? "no interrupts" : `interrupts by ${kind}`;
}

/** All but the first column end where their widest cell does. */
function rightAligned(head: readonly string[], rows: readonly (readonly string[])[]): [string[], string[][]] {
  const widths = head.map((name, column) =>
    column === 0 ? 0 : Math.max(name.length, ...rows.map((row) => row[column]!.length))
  );
  const pad = (row: readonly string[]) => row.map((cell, column) => cell.padStart(widths[column]!));
  return [pad(head), rows.map(pad)];
}

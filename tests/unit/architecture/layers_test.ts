import { assertEquals } from "@std/assert";
import { countImports, importsOf as imports, LAYERS, layersPicture } from "../../../docs/layers.ts";
import { readText } from "../../../ffi/mod.ts";
import { fromFileUrl, walk } from "./source_files.ts";

const root = fromFileUrl(new URL("../../../", import.meta.url));

function layerOf(path: string): number {
  return LAYERS.findIndex((folders) => folders.some((folder) => path.startsWith(`${folder}/`)));
}

const files = walk(root).filter(({ path }) => layerOf(path) >= 0);

Deno.test("imports point down the list of layers", () => {
  const upward: string[] = [];
  let edges = 0;
  for (const { path, text } of files) {
    for (const target of imports(path, text)) {
      if (!target.endsWith(".ts")) continue;
      edges++;
      if (layerOf(target) > layerOf(path) || layerOf(target) < 0) upward.push(`${path} -> ${target}`);
    }
  }
  assertEquals(upward, []);
  assertEquals(edges > 100, true, `only ${edges} imports seen`);
});

Deno.test("no files import each other in a circle, types included", () => {
  const graph = new Map(files.map(({ path, text }) => [path, imports(path, text)]));
  const done = new Set<string>(), circles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) circles.push([...trail.slice(at), path].join(" -> "));
    if (at >= 0 || done.has(path)) return;
    for (const target of graph.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
  assertEquals(circles, []);
});

Deno.test("drivers and lib/virtio never import the device side, and the device side takes only spec/ and view/ from lib/virtio", () => {
  const wrong: string[] = [];
  for (const { path, text } of files) {
    for (const target of imports(path, text)) {
      const driverSide = path.startsWith("drivers/") || path.startsWith("lib/virtio/");
      if (driverSide && target.startsWith("lib/emulation/")) wrong.push(`${path} -> ${target}`);
      const deviceSide = path.startsWith("lib/emulation/");
      if (deviceSide && target.startsWith("lib/virtio/") && !/^lib\/virtio\/(spec|view)\//.test(target)) {
        wrong.push(`${path} -> ${target}`);
      }
      if (deviceSide && target.startsWith("drivers/")) wrong.push(`${path} -> ${target}`);
    }
  }
  assertEquals(wrong, []);
});

/** Folders of `lib/emulation/virtio` that a device is made of, lowest first; what carries it and what lies about it comes after. */
const DEVICE = ["queue", "core", "views", "lies"] as const;

Deno.test("a virtio device's core knows no view, and nothing of PCI functions; its queues know no device", () => {
  const wrong: string[] = [];
  const root = "lib/emulation/virtio/";
  const place = (path: string) => DEVICE.findIndex((folder) => path.startsWith(`${root}${folder}/`));
  for (const { path, text } of files) {
    if (place(path) < 0) continue;
    for (const target of imports(path, text)) {
      const upward = place(target) > place(path);
      const pci = !/\/(views|lies)\//.test(path) && /^lib\/(pci\/|emulation\/pci_function)/.test(target);
      if (upward || pci) wrong.push(`${path} -> ${target}`);
    }
  }
  assertEquals(wrong, []);
});

Deno.test("lib/pci, lib/registers, lib/wire and lib/errors touch nothing outside themselves", () => {
  const wrong: string[] = [];
  for (const { path, text } of files) {
    if (!/^lib\/(pci|registers|wire|errors)\//.test(path)) continue;
    if (/\bDeno\.|from "\.\.\/\.\.\/ffi|from "node:/.test(text)) wrong.push(path);
  }
  assertEquals(wrong, []);
});

Deno.test("only ffi/ says Deno.dlopen or Deno.Unsafe*", () => {
  const wrong = walk(root)
    .filter(({ path }) => !path.startsWith("ffi/") && !path.startsWith("tests/"))
    .filter(({ text }) => /Deno\.(dlopen|Unsafe)/.test(text))
    .map(({ path }) => path);
  assertEquals(wrong, []);
});

Deno.test("the library reads no file through Deno: --allow-ffi is enough", () => {
  const wrong = files
    .filter(({ path }) => /^(ffi|lib|drivers)\//.test(path))
    .filter(({ text }) =>
      /Deno\.(read|write|open|stat|mkdir|remove|env|run|Command|symlink|listen|connect)/.test(text)
    )
    .map(({ path }) => path);
  assertEquals(wrong, []);
});

Deno.test("nothing but tests goes by examples", () => {
  const edges = walk(root).filter(({ path }) => !path.startsWith("tests/"))
    .flatMap(({ path, text }) => imports(path, text).map((target) => `${path} -> ${target}`));
  assertEquals(edges.filter((edge) => edge.includes("-> examples/")), []);
});

Deno.test("the picture of the layers is what the files say; deno task docs:layers draws it", () => {
  const counted = countImports(root);
  assertEquals(counted.get("drivers")!.has("lib/emulation"), false);
  assertEquals(readText(`${root}docs/figures/layers.svg`), layersPicture(counted));
});

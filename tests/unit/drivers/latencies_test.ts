import { assert, assertEquals } from "@std/assert";
import { Latencies } from "../../../drivers/latencies.ts";
import { Random } from "../../random.ts";

Deno.test("percentiles are those of the sorted times, less than 1.6 % too high and never below", () => {
  const random = new Random(11);
  const latencies = new Latencies();
  const times = Array.from({ length: 20_000 }, () => Math.floor(2 ** (random.below(3100) / 100)));
  for (const ns of times) latencies.add(ns / 1e6);
  times.sort((a, b) => a - b);
  assertEquals(latencies.count, times.length);
  for (const part of [0.0001, 0.1, 0.5, 0.9, 0.99, 0.999, 1]) {
    const exact = times[Math.ceil(times.length * part) - 1]! / 1000;
    const found = latencies.percentile(part);
    assert(found >= exact && found <= exact * 1.016, `${part}: ${found}, ${exact}`);
  }
  assertEquals(latencies.maxMicroseconds, times.at(-1)! / 1000);
});

Deno.test("no time, one time, none at all, and one that is longer than can be counted", () => {
  const latencies = new Latencies();
  assertEquals([latencies.percentile(0.5), latencies.maxMicroseconds], [NaN, NaN]);
  latencies.add(0);
  assertEquals([latencies.percentile(0), latencies.percentile(1), latencies.maxMicroseconds], [0, 0, 0]);
  latencies.add(60_000);
  assertEquals(latencies.maxMicroseconds, 60_000_000);
  assert(latencies.percentile(1) >= 4_000_000);
  latencies.clear();
  assertEquals([latencies.count, latencies.percentile(0.5)], [0, NaN]);
});

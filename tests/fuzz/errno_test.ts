import { assertEquals } from "@std/assert";

interface Report {
  calls: number;
  wrong: Record<string, number>;
}

Deno.test("a failing call reports its own errno while workers make V8 compile, collect and lock", async () => {
  const workers = Array.from(
    { length: 6 },
    () => new Worker(new URL("./errno_worker.ts?rounds=600", import.meta.url), { type: "module" }),
  );
  const reports = await Promise.all(workers.map((worker) =>
    new Promise<Report>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
    })
  ));
  for (const worker of workers) worker.terminate();
  const calls = reports.reduce((sum, report) => sum + report.calls, 0);
  const wrong = reports.flatMap((report) => Object.entries(report.wrong));
  console.log(`${calls} failing calls, ${wrong.reduce((sum, [, n]) => sum + n, 0)} with a wrong errno`);
  assertEquals(wrong, []);
});

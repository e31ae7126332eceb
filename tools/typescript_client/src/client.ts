// Client of a workspace that `coldstart serve` serves. Paths, fields and answers have the types of its OpenAPI.
//
//     const shop = connect("http://127.0.0.1:8123");
//     const { data } = await shop.GET("/v1/search", { params: { query: { text: "oat milk" } } });
//     for (const hit of data!.hits) console.log(hit.item_id, hit.title);
//
// An answer that is a problem is thrown as `Fault`, with the server's words.
import createClient, { type Client, type Middleware } from "openapi-fetch";
import type { components, paths } from "./schema.js";

export type { components, paths };
export type Problem = components["schemas"]["Problem"];
export type Job = components["schemas"]["JobResult"];
export type Shop = Client<paths>;

/** Fault that the server states: what is wrong, where, and what to do next. */
export class Fault extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.next ? `${problem.detail}: ${problem.next}` : problem.detail);
    this.name = "Fault";
    this.problem = problem;
  }
}

const faults: Middleware = {
  async onResponse({ response }) {
    const type = response.headers.get("content-type") ?? "";
    if (!response.ok && response.status !== 304 && type.includes("application/problem+json")) {
      throw new Fault((await response.json()) as Problem);
    }
  },
};

/** Connect to a server; `token` is one of its token file. */
export function connect(url: string, token?: string): Shop {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const shop = createClient<paths>({ baseUrl: url, headers });
  shop.use(faults);
  return shop;
}

/** Wait until a job is done or failed; throws after so many milliseconds. */
export async function ended(shop: Shop, job: Job, withinMs = 300_000): Promise<Job> {
  const until = Date.now() + withinMs;
  for (let pause = 100; !["done", "failed"].includes(job.state); pause = Math.min(1000, pause * 1.5)) {
    if (Date.now() > until) throw new Error(`job ${job.job_id} is ${job.state} after ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, pause));
    const { data } = await shop.GET("/v1/jobs/{job_id}", { params: { path: { job_id: job.job_id } } });
    job = data!;
  }
  return job;
}

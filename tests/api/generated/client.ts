// What somebody would write against the types generated from the description of the routes.
// Checked by the compiler in its strictest mode: a shape that is missing or loose fails here.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { argv: string[]; stdout: { write(text: string): void } };

const [, , baseUrl, token] = process.argv as [string, string, string, string];
const headers = { Authorization: `Bearer ${token}` };
// An answer has several forms; a client says by its type which of them it takes.
const service = createClient<paths, "application/json" | "application/problem+json">({ baseUrl, headers });
const tables = createClient<paths, "text/csv">({ baseUrl, headers: { ...headers, Accept: "text/csv" } });

const question: components["schemas"]["Question"] = {
  view: "enrolments",
  academic_years: ["2013/14"],
  purpose: "quality-review",
  filter: { imd_band: { from: "0-10%", to: "40-50%" }, outcome: ["Withdrawn", "Fail"] },
  group_by: ["module"],
  metrics: [{ metric: "students" }, { metric: "mean", measure: "credits" }],
  epsilon: 0.1,
};

// An error is one shape everywhere, so that it is handled once.
function told<T>(got: { data?: T; error?: components["schemas"]["Problem"] }): T {
  if (got.data === undefined) throw new Error(got.error?.type ?? "no answer");
  return got.data;
}

const views = told(await service.GET("/v1/views"));
const view = told(await service.GET("/v1/views/{view}", { params: { path: { view: "enrolments" } } }));
const estimate = told(await service.POST("/v1/estimates", { body: question }));

const key = { header: { "Idempotency-Key": "generated-client-1" } };
const asked = await service.POST("/v1/releases", { params: key, body: question });
const answer = told(asked);
const again = await service.POST("/v1/releases", { params: key, body: question });

const path = { path: { request_id: asked.response.headers.get("Dpanalytics-Request-Id") ?? "" } };
const fetched = told(await service.GET("/v1/releases/{request_id}", { params: path }));
if (fetched.format !== "dpanalytics/release/v1") throw new Error("an auditor's metadata");
const sum: number = fetched.rows.reduce((all, row) => all + row.margin, 0);

const table = await tables.GET("/v1/releases/{request_id}", { params: path, parseAs: "text" });
const csv: string = table.data ?? "";
const page = told(await service.GET("/v1/releases", { params: { query: { limit: 1 } } }));
const budget = told(await service.GET("/v1/budget"));
const left: string | undefined = budget.grants[0]?.left_units;

const refused = await service.POST("/v1/releases", {
  params: { header: { "Idempotency-Key": "generated-client-2" } },
  body: { ...question, epsilon: 19 },
});

process.stdout.write(
  JSON.stringify({
    views: views.views.map((each) => each.name),
    dimensions: view.dimensions.length,
    price: estimate.rho_units,
    statuses: [asked.response.status, again.response.status],
    same: JSON.stringify(answer) === JSON.stringify(again.data),
    rows: answer.rows.length,
    margins: sum > 0,
    csv: csv.split("\r\n")[0],
    listed: page.releases[0]?.request_id,
    left,
    problem: refused.error?.type,
    wider: refused.error?.times_wider,
  }),
);

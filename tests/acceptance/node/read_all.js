// A client with gRPC's defaults reads all that may be written: node read_all.js ADDRESS PROTO
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, proto] = process.argv.slice(2);
const definition = loader.loadSync(proto, { keepCase: true, longs: Number, enums: String, defaults: true });
const { TaskService } = grpc.loadPackageDefinition(definition).taskservice;
const client = new TaskService(address, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))));

const isWhole = (task, large) => task.payload.v === large && task.result.v === large;

async function main() {
  const large = "x".repeat(1024 * 1024 - 1);
  const ids = [];
  for (let n = 0; n < 6; n++) {
    const { task } = await call("CreateTask", { task_type: "echo", payload: { v: large } });
    ids.push(task.task_id);
  }
  for (const task_id of ids) await call("WaitTask", { task_id, timeout_ms: 60000 });
  const chatty = (await call("CreateTask", { task_type: "chatty", payload: { lines: "950" }, max_retry: 4,
    retry: { strategy: "FIXED", delay_ms: 0 } })).task.task_id;
  await call("WaitTask", { task_id: chatty, timeout_ms: 60000 });

  // By number: every task is there, whole or marked; GetTask has what is missing.
  const byNumber = (await call("ListTasks", { priority: -1, page_size: 500 })).tasks;
  let marked = 0;
  for (const task of byNumber.filter((one) => ids.includes(one.task_id))) {
    if (task.values_omitted) marked++;
    const { task: alone } = await call("GetTask", { task_id: task.task_id });
    if (!isWhole(task.values_omitted ? alone : task, large)) throw new Error("a task is neither whole nor marked");
  }

  // By token: every task is there, whole.
  let { tasks: byToken, next_page_token: token } = await call("ListTasks", { priority: -1, page_size: 1 });
  let pages = 1;
  while (token) {
    const page = await call("ListTasks", { priority: -1, page_size: 500, page_token: token });
    byToken.push(...page.tasks);
    token = page.next_page_token;
    pages++;
  }
  const wholeByToken = byToken.filter((one) => ids.includes(one.task_id) && isWhole(one, large)).length;

  // A history: in one answer, and by pages.
  const { logs } = await call("GetTaskLogs", { task_id: chatty });
  const rows = [];
  token = "";
  do {
    const page = await call("GetTaskLogs", { task_id: chatty, page_size: 1000, page_token: token });
    rows.push(...page.logs);
    token = page.next_page_token;
  } while (token);

  // A batch that is as large as a request may be.
  const tasks = Array.from({ length: 900 }, () => ({ task_type: "echo", delay_ms: 3600000, payload: { v: "y".repeat(4500) } }));
  const batch = (await call("BatchCreateTasks", { tasks })).tasks;

  console.log(JSON.stringify({
    byNumber: byNumber.length, marked, byToken: byToken.length, wholeByToken, pages,
    logs: logs.length, end: logs[logs.length - 1].to_status, said: logs[logs.length - 2].message,
    rows: rows.length, rowIds: new Set(rows.map((row) => row.log_id)).size,
    batch: new Set(batch.map((task) => task.task_id)).size,
  }));
  client.close();
}

main().catch((error) => { console.error(error); process.exit(1); });

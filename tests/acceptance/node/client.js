// A client in another language, from the proto alone: node client.js ADDRESS PROTO
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address, proto] = process.argv.slice(2);
const definition = loader.loadSync(proto, { keepCase: true, longs: Number, defaults: true });
const { TaskService } = grpc.loadPackageDefinition(definition).taskservice;
const client = new TaskService(address, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    client[method](request, (error, answer) => (error ? reject(error) : resolve(answer))));

async function main() {
  let { task } = await call("CreateTask", { task_type: "echo", priority: 1, payload: { from: "node" } });
  const created = task.status;
  const end = Date.now() + 20000;
  while (!["SUCCESS", "FAILED"].includes(task.status) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    ({ task } = await call("GetTask", { task_id: task.task_id }));
  }
  const { logs } = await call("GetTaskLogs", { task_id: task.task_id });
  let refused;
  try {
    await call("CreateTask", { task_type: "", priority: 0 });
  } catch (error) {
    refused = grpc.status[error.code];
  }
  console.log(JSON.stringify({ created, task, states: logs.map((row) => row.to_status), refused }));
  client.close();
}

main().catch((error) => { console.error(error); process.exit(1); });

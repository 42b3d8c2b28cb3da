/* Requests to the server; a refusal is thrown as an error with the server's own sentence. */

const fetched = async (path, form, signal) => {
  try {
    return await fetch(path, { method: "POST", body: form, signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Error("the server cannot be reached; start `novelseg app` again at this address, everything here is kept");
  }
};

const answered = async (path, fields, signal) => {
  const form = new FormData();
  for (const [name, value, file] of fields) file === undefined ? form.append(name, value) : form.append(name, value, file);
  let response = await fetched(path, form, signal);
  for (let attempt = 1; response.status === 503 && attempt <= 120; attempt++) {  // busy with the uploads of others
    await new Promise(resolve => setTimeout(resolve, 1000));
    response = await fetched(path, form, signal);
  }
  if (response.ok) return response;
  const content = await response.json().catch(() => ({ error: `the server replied with status ${response.status}; try again` }));
  throw new Error(content.error);
};

export const ask = async (path, fields, signal) => (await answered(path, fields, signal)).json();

/* A file that the server sends: its name and content. */
export const askFile = async (path, fields, signal) => {
  const response = await answered(path, fields, signal), head = response.headers.get("Content-Disposition") ?? "";
  return { name: head.match(/filename="?([^";]+)/)?.[1] ?? "export", blob: await response.blob() };
};

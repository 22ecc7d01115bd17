--- The language client: how the server is started and what is done for it in each buffer.
local M = {}

---@return string[]
local function find_server()
  -- -P keeps the opened folder off Python's module path: a project's own `lsp_server` must not run.
  return vim.fn.executable("midfill-lsp") == 1 and { "midfill-lsp" } or { "python3", "-P", "-m", "lsp_server" }
end

---Sends a notification. Before Neovim 0.11 the functions of a client take no self.
---@param client vim.lsp.Client
---@param method string
---@param params table
function M.notify(client, method, params)
  if vim.fn.has("nvim-0.11") == 1 then
    client:notify(method, params)
  else
    client.notify(method, params)
  end
end

---Runs one of the server's commands.
---@param client vim.lsp.Client
---@param name string
---@param handler lsp.Handler
function M.execute(client, name, handler)
  local method, params = "workspace/executeCommand", { command = name }
  if vim.fn.has("nvim-0.11") == 1 then
    client:request(method, params, handler, 0)
  else
    client.request(method, params, handler, 0)
  end
end

---The base of `vim.lsp.config.midfill`.
---@return vim.lsp.Config
function M.config()
  return {
    cmd = find_server(),
    root_markers = { ".git" },
    handlers = { didChangeStatus = require("midfill.status").on_change },
    on_init = function(client)
      if vim.lsp.inline_completion then
        require("midfill.ghost").watch(client)
      end
    end,
  }
end

---@param client vim.lsp.Client
---@param bufnr integer
function M.attach(client, bufnr)
  local group = vim.api.nvim_create_augroup("midfill.buffer." .. bufnr, { clear = true })
  local function focus()
    M.notify(client, "textDocument/didFocus", { textDocument = { uri = vim.uri_from_bufnr(bufnr) } })
  end
  vim.api.nvim_create_autocmd("BufEnter", { group = group, buffer = bufnr, callback = focus })
  vim.api.nvim_create_autocmd({ "CursorMovedI", "TextChangedP" }, {
    group = group,
    buffer = bufnr,
    callback = function()
      require("midfill.ghost").hide_stale(bufnr)
    end,
  })
  if vim.api.nvim_get_current_buf() == bufnr then
    focus()
  end
  -- After Neovim's own part of attaching, which is scheduled.
  vim.defer_fn(function()
    require("midfill.ghost").hasten(bufnr)
    require("midfill.ghost").ask(bufnr)
  end, 0)
end

---Lets servers that run already know of other settings.
---@param settings midfill.Settings
function M.configure(settings)
  for _, client in ipairs(vim.lsp.get_clients({ name = "midfill" })) do
    client.settings = { midfill = settings }
    M.notify(client, "workspace/didChangeConfiguration", { settings = client.settings })
  end
end

---@return vim.lsp.Client?
function M.running()
  return vim.lsp.get_clients({ name = "midfill" })[1]
end

return M

--- The language client: how the server is started and what is done for it in each buffer.
local M = {}

---@return string[]
local function find_server()
  -- -P keeps the opened folder off Python's module path: a project's own `lsp_server` must not run.
  return vim.fn.executable("midfill-lsp") == 1 and { "midfill-lsp" } or { "python3", "-P", "-m", "lsp_server" }
end

---The base of `vim.lsp.config.midfill`.
---@return vim.lsp.Config
function M.config()
  return {
    cmd = find_server(),
    root_markers = { ".git" },
    handlers = { didChangeStatus = require("midfill.status").on_change },
    on_init = function(client)
      require("midfill.ghost").watch(client)
    end,
  }
end

---@param client vim.lsp.Client
---@param bufnr integer
function M.attach(client, bufnr)
  local group = vim.api.nvim_create_augroup("midfill.buffer." .. bufnr, { clear = true })
  local function focus()
    client:notify("textDocument/didFocus", { textDocument = { uri = vim.uri_from_bufnr(bufnr) } })
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
end

---@return vim.lsp.Client?
function M.running()
  return vim.lsp.get_clients({ name = "midfill" })[1]
end

return M

--- What the server says about itself (`didChangeStatus`), for a statusline.
local M = {}

---@class midfill.Status
---@field busy boolean
---@field message? string
---@field kind "Normal"|"Warning"|"Error"|"Inactive"

local MARKS = { Normal = "", Warning = " !", Error = " !", Inactive = " off" }

---@type table<integer, midfill.Status> by client id
local states = {}

---@param status? midfill.Status
---@return boolean
local function ready(status)
  return status ~= nil and status.kind == "Normal" and (status.message or "") == ""
end

---@type lsp.Handler
function M.on_change(_, status, ctx)
  local before = states[ctx.client_id]
  states[ctx.client_id] = status
  if ready(status) and not ready(before) then
    require("midfill.ghost").ask(vim.api.nvim_get_current_buf())
  end
  vim.api.nvim_exec_autocmds("User", { pattern = "MidfillStatus", data = status, modeline = false })
  vim.cmd.redrawstatus({ bang = true })
end

---@param bufnr? integer default: current buffer
---@return midfill.Status? # nil when no server is attached
function M.get(bufnr)
  local client = vim.lsp.get_clients({ name = "midfill", bufnr = bufnr or 0 })[1]
  return client and (states[client.id] or { busy = true, message = "starting", kind = "Normal" })
end

---@return string # short, empty when no server is attached to the current buffer
function M.line()
  local status = M.get()
  if not status then
    return ""
  elseif status.busy then
    return "midfill …"
  end
  local message = status.message or ""
  return "midfill" .. MARKS[status.kind] .. (message ~= "" and ": " .. message or "")
end

return M

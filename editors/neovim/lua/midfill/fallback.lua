--- Neovim 0.10 and 0.11 show no ghost text: there the server's completion is an entry of the popup menu, which
--- |i_CTRL-X_CTRL-O| opens, or a completion plugin.
local M = {}

---@param plugin midfill.PluginOptions
---@param settings midfill.Settings
function M.setup(plugin, settings)
  local config = vim.tbl_extend("force", require("midfill.client").config(), {
    name = "midfill",
    cmd = plugin.cmd,
    init_options = settings,
    settings = { midfill = settings },
  })
  local function start(bufnr)
    local wanted = not plugin.filetypes or vim.tbl_contains(plugin.filetypes, vim.bo[bufnr].filetype)
    if wanted and vim.bo[bufnr].buftype == "" and vim.api.nvim_buf_get_name(bufnr) ~= "" then
      config.root_dir = vim.fs.root(bufnr, ".git")
      vim.lsp.start(config, { bufnr = bufnr })
    end
  end
  vim.api.nvim_create_autocmd({ "BufReadPost", "BufNewFile", "FileType" }, {
    group = vim.api.nvim_create_augroup("midfill.fallback", { clear = true }),
    callback = function(event)
      start(event.buf)
    end,
  })
  if vim.v.vim_did_enter == 1 then
    start(vim.api.nvim_get_current_buf())
  end
end

return M

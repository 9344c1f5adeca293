variable "domain" {
  description = "Name, and certificate_arn or zone_id."
  type = object({
    name            = string
    certificate_arn = optional(string)
    zone_id         = optional(string)
  })
}

variable "api_id" {
  description = "The API."
  type        = string
}

variable "stage_name" {
  description = "Its stage."
  type        = string
}

output "api_id" {
  description = "The API's id."
  value       = aws_apigatewayv2_api.this.id
}

output "stage_name" {
  description = "Its stage."
  value       = aws_apigatewayv2_stage.this.name
}

output "url" {
  description = "Where it is."
  value       = aws_apigatewayv2_api.this.api_endpoint
}
